"""Readers and writers of others' formats."""
