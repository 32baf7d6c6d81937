"""What several test files share: frames by hand, peers in memory, a whole mesh without sockets."""
