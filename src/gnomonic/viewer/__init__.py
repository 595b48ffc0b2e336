"""The map in the browser: plain ES modules, and `files`, which hands them out."""
