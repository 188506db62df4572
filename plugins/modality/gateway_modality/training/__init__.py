"""How the weights are made: the encoder's export, the pictures, their changes, the heads. Serving needs none of it."""
