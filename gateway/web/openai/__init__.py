"""OpenAI's wire format: read strictly into the gateway's values, written from a logged outcome."""
