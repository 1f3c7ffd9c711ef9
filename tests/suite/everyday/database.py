"""A database in each of its modes."""

import sqlite3, os
for mode in ('delete', 'truncate', 'persist', 'wal'):
    name = mode + '.db'
    db = sqlite3.connect(name, isolation_level=None)
    print(db.execute('pragma journal_mode=' + mode).fetchall())
    db.execute('create table t (k integer primary key, v text)')
    db.execute('begin')
    db.executemany('insert into t values (?, ?)', ((i, 'v' * (i % 300)) for i in range(3000)))
    db.execute('commit')
    db.execute('begin')
    db.execute('delete from t where k % 3 = 0')
    db.execute('rollback')
    other = sqlite3.connect(name)
    print(other.execute('select count(*), sum(length(v)) from t').fetchall())
    other.close()
    db.execute('delete from t where k % 3 = 0')
    db.execute('vacuum')
    print(db.execute('select count(*), sum(length(v)) from t').fetchall(), db.execute('pragma integrity_check').fetchall())
    db.close()
    print(sorted(n for n in os.listdir('.') if mode in n))
    [os.remove(n) for n in os.listdir('.') if n.startswith(mode)]
