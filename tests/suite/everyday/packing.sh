truncate -s 40M holes
printf start | dd of=holes conv=notrunc 2>/dev/null
printf middle | dd of=holes bs=1 seek=20000000 conv=notrunc 2>/dev/null
"$PYTHON" -c "
import os
for name in ('a.txt', 'holes', 'dir'):
    os.setxattr(name, 'user.kept', b'of ' + name.encode())
"
tar --sparse --xattrs --xattrs-include='user.kept' -cf packed.tar a.txt holes dir link
test "$(stat -c %s packed.tar)" -lt 1000000 && echo "holes take no room in it"
mkdir out
tar --sparse --xattrs --xattrs-include='user.kept' -xpf packed.tar -C out
cmp holes out/holes && stat -c '%s %Y' out/a.txt out/dir/x
test "$(stat -c %b out/holes)" -lt 2000 && echo "nor where they are unpacked"
"$PYTHON" -c "
import os
for name in ('a.txt', 'holes', 'dir'):
    print(os.getxattr('out/' + name, 'user.kept'))
    os.removexattr('out/' + name, 'user.kept')
    os.removexattr(name, 'user.kept')
"
tar --compare -f packed.tar -C out && echo the same
tar -tf packed.tar | sort
rm packed.tar holes out/holes
