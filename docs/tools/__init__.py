"""What makes the site out of the checkout: used by mkdocs.yml and tests/test_docs_site.py, and by nobody who serves.

    docstrings    our docstrings, taken apart; as Markdown
    api           the same for mkdocstrings, as an extension of griffe
    arguments     writes docs/reference/arguments.md
    hooks         what mkdocs calls: pages from outside docs/, and links to them
    snippets      the Python and the command lines that the pages show

They stand here, and not in a package that is installed, because they read all packages, and need the extra `docs`.
"""
