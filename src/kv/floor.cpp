// The sources of this floor replace this file.
