"""What shell tools do not do."""

import errno, fcntl, mmap, os, stat

def attempt(what, do):
    try:
        print(what, do())
    except OSError as error:
        print(what, errno.errorcode[error.errno])

# mmap, of a new file and of an input.
with open('mapped', 'w+b') as f:
    f.truncate(100000)
    with mmap.mmap(f.fileno(), 0) as m:
        m[5000:5005] = b'hello'
        m[99999:100000] = b'!'
        m.flush()
with open('big', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    print(m[:8], m[2499990:].hex())
    m[1200000:1200007] = b'changed'
    m.flush()
with open('big', 'rb') as f:
    f.seek(1199995)
    print(f.read(20))
with open('a.txt', 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
    print(m[:])

# A file that is open has no need of its name.
f = open('gone', 'w+b')
f.write(b'still here')
f.flush()
os.unlink('gone')
print(os.path.exists('gone'), os.fstat(f.fileno()).st_nlink, os.fstat(f.fileno()).st_size)
f.seek(0)
print(f.read())
f.write(b'.')
f.close()
f = open('b.txt', 'rb')
os.unlink('b.txt')
print(f.read())
f.close()
f = open('zero', 'ab')
f.write(b'1')
f.flush()
os.rename('zero', 'one')
f.write(b'2')
f.close()
print(open('one').read())
f = open('dir/x', 'r+b')
os.rename('dir', 'dir2')
f.write(b'X')
f.close()
print(open('dir2/x').read())
os.rename('dir2', 'dir')
f = open('tmp', 'w')
f.write('new')
f.close()
g = open('dir/sub/y')
os.replace('tmp', 'dir/sub/y')
print(g.read(), open('dir/sub/y').read())

# Two that have one file open see each other.
a = os.open('pair', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
b = os.open('pair', os.O_RDWR)
os.pwrite(a, b'0123456789', 0)
os.pwrite(b, b'abc', 4)
print(os.pread(a, 100, 0), os.pread(b, 3, 8))
os.ftruncate(a, 6)
print(os.fstat(b).st_size, os.pread(b, 100, 0))
os.ftruncate(b, 9)
print(os.pread(a, 100, 0))
c = os.open('pair', os.O_WRONLY | os.O_APPEND)
os.write(c, b'end')
os.pwrite(a, b'A', 0)
print(os.pread(a, 100, 0), os.lseek(b, 0, os.SEEK_END))
attempt('lock', lambda: fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB))
attempt('locked', lambda: fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB))
attempt('range lock', lambda: fcntl.lockf(a, fcntl.LOCK_EX | fcntl.LOCK_NB, 3))
os.fsync(a)
os.fdatasync(b)
[os.close(fd) for fd in (a, b, c)]
d = os.open('.', os.O_RDONLY | os.O_DIRECTORY)
os.fsync(d)
print(os.stat('pair', dir_fd=d).st_size, oct(stat.S_IMODE(os.stat('pair').st_mode)))

# Opening in all ways.
attempt('exclusive', lambda: os.open('pair', os.O_CREAT | os.O_EXCL | os.O_WRONLY))
attempt('no file', lambda: os.open('no', os.O_RDONLY))
attempt('below a file', lambda: os.open('pair/x', os.O_RDONLY))
attempt('directory to write', lambda: os.open('dir', os.O_WRONLY))
attempt('file as directory', lambda: os.open('pair', os.O_RDONLY | os.O_DIRECTORY))
attempt('link not followed', lambda: os.open('link', os.O_RDONLY | os.O_NOFOLLOW))
attempt('read of a writer', lambda: os.read(os.open('pair', os.O_WRONLY), 1))
attempt('write of a reader', lambda: os.write(os.open('pair', os.O_RDONLY), b'x'))
attempt('empty', lambda: os.open('', os.O_RDONLY))
fd = os.open('a.txt', os.O_RDWR | os.O_TRUNC)
print(os.fstat(fd).st_size)
os.write(fd, b'anew\n')
os.close(fd)
print(open('a.txt').read())
fd = os.open('run.sh', os.O_WRONLY)
os.pwrite(fd, b'#', 100)
os.close(fd)
print(os.stat('run.sh').st_size)
open('kept', 'w').write('mode')
os.chmod('kept', 0o400)
fd = os.open('made', os.O_CREAT | os.O_WRONLY, 0o400)
os.write(fd, b'first write')
os.close(fd)

# Names.
attempt('rmdir of a file', lambda: os.rmdir('pair'))
attempt('unlink of a directory', lambda: os.unlink('empty'))
attempt('not empty', lambda: os.rmdir('dir'))
attempt('mkdir over', lambda: os.mkdir('dir'))
attempt('too long', lambda: os.mkdir('x' * 256))
attempt('not below itself', lambda: os.rename('dir', 'dir/sub/dir'))
attempt('dir over file', lambda: os.rename('dir', 'pair'))
attempt('file over dir', lambda: os.rename('pair', 'dir'))
attempt('over not empty', lambda: os.rename('empty', 'dir'))
attempt('onto itself', lambda: os.rename('pair', 'pair'))
attempt('link over', lambda: os.link('pair', 'one'))
attempt('link of a directory', lambda: os.link('dir', 'dir3'))
attempt('symlink over', lambda: os.symlink('x', 'pair'))
attempt('readlink of a file', lambda: os.readlink('pair'))
attempt('long target', lambda: os.symlink('t' * 4000, 'long'))
os.unlink('long') if os.path.islink('long') else None
os.mkdir('e1')
os.mkdir('e2')
os.rename('e1', 'e2')
print(sorted(os.listdir('.')))
h = os.open('empty', os.O_RDONLY)
os.rmdir('empty')
print(os.listdir(h))
attempt('in a removed directory', lambda: os.open('x', os.O_CREAT | os.O_WRONLY, dir_fd=h))

# Copies that the kernel makes, space that is asked for, times to the nanosecond.
with open('big', 'rb') as s, open('sent', 'wb') as t:
    sent = 0
    while sent < 2500000: sent += os.sendfile(t.fileno(), s.fileno(), sent, 1 << 20)
print(open('sent', 'rb').read() == open('big', 'rb').read())
with open('big', 'rb') as s, open('ranged', 'wb') as t:
    done = 0
    while done < 2000000: done += os.copy_file_range(s.fileno(), t.fileno(), 2000000 - done)
print(os.stat('ranged').st_size)
with open('allotted', 'wb') as f:
    attempt('allot', lambda: os.posix_fallocate(f.fileno(), 0, 200000))
    print(os.fstat(f.fileno()).st_size)
os.utime('one', ns=(1000000000123456789, 1000000000123456000))
print(os.stat('one').st_mtime_ns)
os.utime('one', ns=(0, 999999999999999000))
print(os.stat('one').st_mtime_ns)
os.truncate('one', 1)
print(open('one').read())
os.utime('one', ns=(5000, 5000))
before = os.stat('dir').st_mtime_ns
open('dir/newest', 'w').close()
print(os.stat('dir').st_mtime_ns > before)

# Holes and zeros, names that change places, attributes, FIFOs.
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)
def allocate(fd, mode, offset, length):
    call('fallocate', fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
for name in ('big', 'holed'):
    fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, 2500000)
    allocate(fd, 3, 1 << 20, 1 << 20)
    allocate(fd, 1, 0, 3000000)
    print(os.fstat(fd).st_size, os.pread(fd, 20, (1 << 20) - 10), os.pread(fd, 20, (2 << 20) - 10))
    attempt('allocate', lambda: allocate(fd, 0, 2499999, 10))
    print(os.fstat(fd).st_size)
    os.pwrite(fd, b'data', 2300000)
    os.ftruncate(fd, 9 << 20)
    os.pwrite(fd, b'end', 8 << 20)
    print(os.lseek(fd, 7 << 20, os.SEEK_DATA), os.lseek(fd, 5 << 20, os.SEEK_HOLE))
    attempt('past the end', lambda: os.lseek(fd, 9 << 20, os.SEEK_HOLE))
    os.close(fd)
def exchange(one, other):
    call('renameat2', -100, os.fsencode(one), -100, os.fsencode(other), 2)
exchange('a.txt', 'dir')
print(sorted(os.listdir('a.txt')), open('dir').read())
exchange('dir', 'a.txt')
attempt('below itself', lambda: exchange('dir', 'dir/sub'))
attempt('with nothing', lambda: exchange('dir', 'nothing'))
for name in ('big', 'pair', 'dir'):
    attempt('no attribute', lambda: os.getxattr(name, 'user.x'))
    os.setxattr(name, 'user.x', b'value')
    attempt('create', lambda: os.setxattr(name, 'user.x', b'', os.XATTR_CREATE))
    attempt('replace', lambda: os.setxattr(name, 'user.y', b'', os.XATTR_REPLACE))
    print(os.getxattr(name, 'user.x'), os.listxattr(name))
os.rename('pair', 'paired')
print(os.getxattr('paired', 'user.x'))
os.removexattr('paired', 'user.x')
attempt('removed', lambda: os.removexattr('paired', 'user.x'))
os.rename('paired', 'pair')
print([os.stat(name).st_nlink for name in ('.', 'dir', 'dir/sub')])
os.mkfifo('dir/fifo', 0o640)
if os.fork() == 0:
    with open('dir/fifo', 'w') as f: f.write('through')
    os._exit(0)
print(open('dir/fifo').read(), stat.filemode(os.stat('dir/fifo').st_mode))
os.wait()
os.unlink('dir/fifo')
