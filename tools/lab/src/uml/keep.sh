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
	# The kernel's end, which is noticed below, shall not end this.
	trap '' TERM
	bury
	rm -rf "$folder"
} &
exec 3<&-
trap '' TERM
wait $machine 2>/dev/null
bury
kill -s TERM 0
