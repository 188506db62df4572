"""How the weights are made: encoder, pictures, what clean ones go through, attacks, the head. Serving needs none."""
