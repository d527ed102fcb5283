#!/bin/sh
# The first process inside: what a command can stand on, then the command, then the end.
# The folder of this file has the command and takes what it printed and how it ended.
here=${0%/*}
mount -t proc proc /proc
mount -t sysfs sys /sys 2>/dev/null
# What the host has there is the host's: its sockets, its namespaces, its queues.
for folder in /run /mnt /var/tmp /dev/shm; do
	mount -t tmpfs tmpfs $folder 2>/dev/null
done
# What is printed goes to the host's files within a tenth of a second.
echo 5 >/proc/sys/vm/dirty_writeback_centisecs
echo 10 >/proc/sys/vm/dirty_expire_centisecs
# The package has its modules where modprobe does not look.
mkdir -p /mnt/lib/modules
ln -s "/usr/lib/uml/modules/$(uname -r)" "/mnt/lib/modules/$(uname -r)"
printf '#!/bin/sh\nexec modprobe -d /mnt "$@"\n' >/mnt/modprobe
chmod +x /mnt/modprobe
echo /mnt/modprobe >/proc/sys/kernel/modprobe
# Those that nothing asks for by name, and those that IPVS asks for in the middle of a request.
for name in rr wrr lc wlc lblc lblcr sh dh sed nq fo ovf mh twos ftp pe_sip; do
	modprobe -q -d /mnt ip_vs_$name
done
modprobe -q -d /mnt -a ip_vs veth dummy tun ipip ip_gre ip6_tunnel ip6_gre fou fou6 sctp sch_ingress cls_bpf
ip link set lo up
sh "$here/command" >"$here/out" 2>"$here/err" </dev/null
echo $? >"$here/code.new"
mv "$here/code.new" "$here/code"
sync
halt -f 2>/dev/null || poweroff -f
