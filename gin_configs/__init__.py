"""Gin files, packaged so that an installed wheel finds them."""
