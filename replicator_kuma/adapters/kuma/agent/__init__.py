"""The agent in Kuma's process (agent.cjs), how it gets there, and the client that talks to it."""
