# Runs the rest of its arguments, a kernel that makes a process group of its own. Nothing of it is
# left when it ends, nor when whoever holds the other end of our standard input lets go of it,
# however that comes about; then the folder that is the first argument goes, too.
folder=$1
shift
exec 3<&0 </dev/null
"$@" 3<&- &
machine=$!
bury() {
	kill -s KILL -- "-$machine" "$machine" 2>/dev/null
}
{
	cat <&3 >/dev/null
	bury
	rm -rf "$folder"
	kill -s KILL 0
} &
exec 3<&-
wait $machine
bury
kill -s KILL 0
