"""A price book for tests: two providers, two dates, reasoning, and a model without a price for cached tokens."""

BOOK = """
[[model]]
name = "big"
provider = "openai"
since = 2026-01-01
input = 2.50
cached_input = 1.25
output = 10.00

[[model]]
name = "big"
provider = "openai"
since = 2026-06-01
input = 2.00
cached_input = 0.50
output = 8.00

[[model]]
name = "big"
since = 2026-01-01
input = 3.00
cached_input = 3.00
output = 12.00

[[model]]
name = "thinker"
since = 2026-01-01
until = 2026-07-01
input = 1.00
cached_input = 0.0375
output = 4.00
reasoning = 6.00

[[model]]
name = "plain"
since = 2026-01-01
input = 0.1
output = 0.4
"""
