tar cf all.tar a.txt b.txt dir "with space" run.sh link dangling empty
tar tf all.tar | sort
mkdir x
tar xf all.tar -C x
tar c dir big | tar x -C x
tar czf dir.tgz --sort=name --mtime=@0 dir
mkdir y
tar xzf dir.tgz -C y
ls -R x y | sort
tar xf all.tar --overwrite
tar df all.tar && echo the same
tar rf all.tar zero
tar tf all.tar | wc -l
rm dir.tgz
gzip -k a.txt
gzip -dc a.txt.gz
gunzip -f a.txt.gz
find dir -depth | cpio -o --quiet 2>/dev/null > dir.cpio
rm dir.cpio
rm all.tar
tar xf no.tar
