"""The command `aum find`: a data set comes in, `aum.sklearn` judges it, and a table and files come out."""
