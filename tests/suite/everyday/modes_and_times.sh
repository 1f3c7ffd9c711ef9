chmod +x a.txt
chmod 600 b.txt
chmod -x run.sh
./run.sh
chmod 750 run.sh
./run.sh 1
chmod 700 dir
chmod 1777 empty
chmod a-w zero
touch -d '2001-02-03 04:05:06.789012' a.txt
touch -d '1970-01-01 00:00:00 UTC' zero
touch -d '1969-12-31 23:59:58.5 UTC' dir/x
touch -d '2105-06-07 UTC' b.txt
stat -c '%n %Y %a %s %F' a.txt b.txt zero dir/x run.sh big
touch -r a.txt dir/sub/y
touch -m -d @5 big
touch new
echo new > old
touch -d @77777 old
echo more >> old
touch -d @77777 old
cp -p old older
umask 077
mkdir private
echo x > private/x
umask 022
mkdir -m 711 m
touch -h -d @99 link
stat -c %Y link
touch -c nothing
find . -perm -u+x -type f | sort
find . -newer b.txt
test -x a.txt && echo x
test -x b.txt || echo no x
touch -d @1234567 "with space/"*
mv a.txt moved
stat -c %Y moved
stat -c '%a' private/x m empty
