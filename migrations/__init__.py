"""The history of the database: one file for each step, one head."""
