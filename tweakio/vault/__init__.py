"""The vault: sessions in history, sealed for its recipients in the age format."""
