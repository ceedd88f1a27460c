"""The schemas of real Uptime Kuma versions, as data: one SQL file each."""
