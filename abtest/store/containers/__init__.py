"""What log files are made of; a new codec or container is one new file here."""
