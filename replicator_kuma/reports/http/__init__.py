"""What an instance tells by HTTP: the API, health, metrics and the page (docs/api.md)."""
