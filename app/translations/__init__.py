"""The catalogues of the pages' texts, one folder for each language."""
