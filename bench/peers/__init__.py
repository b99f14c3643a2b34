"""What rocksyd is measured beside: each a program of its own, started and stopped by the bench."""
