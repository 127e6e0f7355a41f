"""What the program is measured by; each file is a program of its own."""
