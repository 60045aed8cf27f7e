"""The commands on runs that are over, or on what is there of them: `aum merge`, `rank`, `info`, `records`, `export`.

They need NumPy alone; pyarrow where Parquet is read or written.
"""
