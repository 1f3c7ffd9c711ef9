"""Several processes that write to the same files through mappings."""

import mmap, os

def child(do):
    pid = os.fork()
    if pid == 0:
        do()
        os._exit(0)
    return pid

def finish(pids):
    print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])

with open('shared', 'wb') as f:
    f.truncate(64 * 4096 + 100)

# Each writes every fourth page, and the last bytes, through a mapping of its own.
def stripes(number):
    with open('shared', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
        for page in range(number, 64, 4):
            m[page * 4096:page * 4096 + 4096] = bytes([65 + number]) * 4096
        m[64 * 4096 + number:64 * 4096 + number + 1] = b'!'
finish([child(lambda number=number: stripes(number)) for number in range(4)])
with open('shared', 'rb') as f:
    text = f.read()
print(len(text), {chr(c): text.count(c) for c in sorted(set(text))})

# An input: one maps, one writes, one reads what both did.
with open('big', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    m[0:6] = b'mapped'
    def write():
        with open('big', 'r+b') as g:
            g.seek(4096 * 3 - 2)
            g.write(b'across')
    finish([child(write)])
    print(m[4096 * 3 - 2:4096 * 3 + 4], f.read(6))
    f.seek(0, os.SEEK_END)
    f.write(b'end')
    f.flush()
    os.ftruncate(f.fileno(), 4096 * 5 + 7)
    m[4096 * 5:4096 * 5 + 7] = b'the end'
print(os.stat('big').st_size, open('big', 'rb').read()[-9:])

# A copy that is private changes nothing.
with open('a.txt', 'rb') as f, mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as m:
    m[0:5] = b'ALPHA'
    print(m[:5], open('a.txt', 'rb').read(5))

# What is mapped and has no name any more.
with open('nameless', 'w+b') as f:
    f.truncate(8192)
    m = mmap.mmap(f.fileno(), 0)
    os.unlink('nameless')
    m[4000:4006] = b'behind'
    print(os.pread(f.fileno(), 6, 4000))
    m.close()
