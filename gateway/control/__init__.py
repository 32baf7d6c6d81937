"""Where endpoints and routes come from, and the publisher that turns them into snapshots."""
