"""Text encoders: BERT, word embedding, GRU and LSTM."""
