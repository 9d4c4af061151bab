"""The benches, one file each; README.md says how to add one."""
