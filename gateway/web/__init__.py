"""HTTP: OpenAI's API, the decisions, health. `gateway.web.app.create_app` makes the application."""
