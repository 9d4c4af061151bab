"""What runs the benches: building, running programs, records and their table."""
