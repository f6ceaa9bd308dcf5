"""After total loss: the catalogue and the history back from a store, and what that needs there."""
