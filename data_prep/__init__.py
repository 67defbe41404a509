"""One module per dataset: official files on disk -> manifest. ``mini`` draws the built-in datasets in the same layouts."""
