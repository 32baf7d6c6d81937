"""Which endpoint a call takes: one policy a file, each an immutable picker."""
