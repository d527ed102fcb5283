// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
//
// Which frames are uvs's? One question, asked at three places:
//
//   uvs_xdp    before the kernel sees the frame: ours go to the worker's AF_XDP socket;
//              uvs_xdp_frags where a frame may be in several parts
//   uvs_raw    on the packet socket: it hands out ours and nothing else
//   uvs_tcx    behind the packet sockets, at tc ingress: ours end here, so that the kernel does
//   uvs_tc     not answer or forward what uvs works on; uvs_tc is for kernels before 6.6
//
// Whatever is not ours passes to the kernel untouched: ARP, neighbour discovery, pings, SSH, routing.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer/marks.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

// Two tags are what a provider bridge leaves on a frame (802.1ad).
#define MAX_TAGS 2
// As many as the workers go over (wire/extension.rs).
#define MAX_EXTENSIONS 8
#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff
#define ISAKMP_PORT 500
#define KEEP_ALL 0xffffffff
#define QUEUES_PER_LINK 256
// A uvs whose heart has not beaten for so long, in nanoseconds, is gone.
#define DEAD_AFTER 2000000000ULL

// As it stands on the wire; IPv4 is mapped into IPv6 (RFC 4291, section 2.5.5.2).
struct address {
	__be64 high;
	__be64 low;
};

// Port 0 is any port.
struct endpoint {
	struct address addr;
	__be16 port;
	__u8 proto;
	__u8 zero[5];
};

// What clients send to.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct endpoint);
	__type(value, __u8);
} services SEC(".maps");

// What real servers behind NAT answer from.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct endpoint);
	__type(value, __u8);
} servers SEC(".maps");

// The addresses of `services` and of `servers`: fragments carry no port.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct address);
	__type(value, __u8);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct address);
	__type(value, __u8);
} nat_servers SEC(".maps");

// Where our tunnels end: a real server, with the protocol that carries the packets and the port of
// GUE.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct endpoint);
	__type(value, __u8);
} tunnels SEC(".maps");

// ifindex -> the slot in `xsks` of that link's queue 0, which is its number * QUEUES_PER_LINK.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} links SEC(".maps");

// 8 links of up to 256 queues.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 2048);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

// When uvs last said that it is alive (CLOCK_MONOTONIC, ns).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} heartbeat SEC(".maps");

// A frame, in one of the two ways in which a program may read it: XDP has it all in one piece,
// but for a large one on a link with a large MTU; of an skb the first part only.
struct frame {
	struct xdp_md *xdp;
	struct __sk_buff *skb;
	__u8 in_parts;
};

// Offsets are below this: tags, two IP headers with options or a few extension headers, and what is
// read behind them.
#define MAX_OFFSET 1023

static __always_inline int load(const struct frame *frame, __u32 offset, void *to, const __u32 len)
{
	if (frame->skb)
		return bpf_skb_load_bytes(frame->skb, offset, to, len);

	void *end = (void *)(long)frame->xdp->data_end;
	char *from = (char *)(long)frame->xdp->data + (offset & MAX_OFFSET);

	// Some drivers leave no more than the Ethernet header in the first part.
	if (offset > MAX_OFFSET || (void *)(from + len) > end)
		return frame->in_parts ? bpf_xdp_load_bytes(frame->xdp, offset, to, len) : -1;
	__builtin_memcpy(to, from, len);
	return 0;
}

// What is asked about a packet.
struct packet {
	struct address from;
	struct address to;
	// Where its payload begins.
	__u32 payload;
	__u8 proto;
	// A part of a packet; a part without the ports.
	__u8 fragment;
	__u8 later;
	__u8 is_v6;
};

static __always_inline struct address mapped(__be32 addr)
{
	struct address address = { .low = bpf_cpu_to_be64(0xffffULL << 32 | bpf_ntohl(addr)) };

	return address;
}

static __always_inline int same(const struct address *one, const struct address *other)
{
	return one->high == other->high && one->low == other->low;
}

static __always_inline int read_ipv4(const struct frame *frame, __u32 offset, struct packet *packet)
{
	struct iphdr ip;

	if (load(frame, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return -1;
	packet->from = mapped(ip.saddr);
	packet->to = mapped(ip.daddr);
	packet->payload = offset + ip.ihl * 4;
	packet->proto = ip.protocol;
	packet->fragment = !!(ip.frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET));
	packet->later = !!(ip.frag_off & bpf_htons(IP_OFFSET));
	packet->is_v6 = 0;
	return 0;
}

// Goes over the extension headers, up to a fragment header and over it.
static __always_inline int skip_extensions(const struct frame *frame, struct packet *packet)
{
	for (int count = 0; count < MAX_EXTENSIONS; count++) {
		__u8 proto = packet->proto, header[4];

		if (proto != IPPROTO_HOPOPTS && proto != IPPROTO_ROUTING && proto != IPPROTO_DSTOPTS &&
		    proto != IPPROTO_FRAGMENT && proto != IPPROTO_AH)
			return 0;
		if (load(frame, packet->payload, header, sizeof(header)))
			return -1;
		packet->proto = header[0];
		if (proto == IPPROTO_FRAGMENT) {
			packet->payload += 8;
			packet->fragment = 1;
			packet->later = header[2] || header[3] >> 3;
			return 0;
		}
		if (proto == IPPROTO_AH)
			packet->payload += (header[1] + 2) * 4;
		else
			packet->payload += (header[1] + 1) * 8;
	}
	return 0;
}

static __always_inline int read_ipv6(const struct frame *frame, __u32 offset, struct packet *packet)
{
	struct ipv6hdr ip;

	if (load(frame, offset, &ip, sizeof(ip)) || ip.version != 6)
		return -1;
	__builtin_memcpy(&packet->from, &ip.saddr, sizeof(packet->from));
	__builtin_memcpy(&packet->to, &ip.daddr, sizeof(packet->to));
	packet->payload = offset + sizeof(ip);
	packet->proto = ip.nexthdr;
	packet->fragment = 0;
	packet->later = 0;
	packet->is_v6 = 1;
	return skip_extensions(frame, packet);
}

static __always_inline int known(void *map, __u8 proto, const struct address *addr, __be16 port)
{
	struct endpoint key = { .addr = *addr, .port = port, .proto = proto };

	if (bpf_map_lookup_elem(map, &key))
		return 1;
	key.port = 0;
	return bpf_map_lookup_elem(map, &key) != 0;
}

static __always_inline int has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

// Protocol and ports by which the connection of a packet is found. AH and ESP go with the UDP
// connection of ISAKMP, over which their keys were agreed.
static __always_inline int load_ports(const struct frame *frame, struct packet *packet,
				      __be16 ports[2])
{
	if (packet->proto == IPPROTO_AH || packet->proto == IPPROTO_ESP) {
		packet->proto = IPPROTO_UDP;
		ports[0] = ports[1] = bpf_htons(ISAKMP_PORT);
		return 0;
	}
	if (!has_ports(packet->proto))
		return -1;
	return load(frame, packet->payload, ports, 2 * sizeof(*ports));
}

// Whether what goes from one address to another has a firewall mark that is served.
static __always_inline int marked(const struct frame *frame, const struct packet *packet,
				  const struct address *from, const struct address *to, __u32 port)
{
	__u32 link = frame->skb ? frame->skb->ifindex : frame->xdp->ingress_ifindex;
	__u32 first = 0, *slot;

	if (!has_ports(packet->proto) || !bpf_map_lookup_elem(&marks, &first))
		return 0;
	slot = bpf_map_lookup_elem(&links, &link);

	struct mark_key key = {
		.from = { bpf_be64_to_cpu(from->high), bpf_be64_to_cpu(from->low) },
		.to = { bpf_be64_to_cpu(to->high), bpf_be64_to_cpu(to->low) },
		.port = port,
		.proto = packet->proto,
		.is_v6 = packet->is_v6,
		.link = slot ? *slot / QUEUES_PER_LINK : MARK_NO_LINK,
	};
	return mark_is_served(&key);
}

// Whether an ICMP message of either version is about a packet, and not news.
static __always_inline int is_error(const struct packet *packet, __u8 type)
{
	if (packet->is_v6)
		return type < 128;
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

// An ICMP error is ours when the packet it is about is: one that a VIP sent to a client, or one
// that a client sent and a real server behind NAT, or a router before it, could not take; or one
// that we sent through a tunnel. What a VIP sent has the mark of what it answers.
static __always_inline int serves_error(const struct frame *frame, const struct packet *packet)
{
	struct packet about;
	__be16 ports[2];
	__u8 type;
	int ours;

	if (load(frame, packet->payload, &type, sizeof(type)) || !is_error(packet, type))
		return 0;
	if (packet->is_v6 ? read_ipv6(frame, packet->payload + 8, &about)
			  : read_ipv4(frame, packet->payload + 8, &about))
		return 0;
	ours = same(&about.from, &packet->to);
	if (about.later) {
		if (ours && bpf_map_lookup_elem(&vips, &about.from))
			return 1;
		if (bpf_map_lookup_elem(&nat_servers, &about.to))
			return 1;
		return ours && marked(frame, &about, &about.to, &about.from, MARK_NO_PORT);
	}
	if (ours && (about.proto == IPPROTO_IPIP || about.proto == IPPROTO_GRE))
		return known(&tunnels, about.proto, &about.to, 0);
	if (load_ports(frame, &about, ports))
		return 0;
	if (ours && known(&tunnels, about.proto, &about.to, ports[1]))
		return 1;
	if (ours && known(&services, about.proto, &about.from, ports[0]))
		return 1;
	if (known(&servers, about.proto, &about.to, ports[1]))
		return 1;
	return ours && marked(frame, &about, &about.to, &about.from, bpf_ntohs(ports[0]));
}

static __always_inline int serves_packet(const struct frame *frame, struct packet *packet)
{
	__be16 ports[2];

	if (packet->fragment) {
		if (bpf_map_lookup_elem(&vips, &packet->to))
			return 1;
		if (bpf_map_lookup_elem(&nat_servers, &packet->from))
			return 1;
		return marked(frame, packet, &packet->from, &packet->to, MARK_NO_PORT);
	}
	if (packet->proto == (packet->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return serves_error(frame, packet);
	if (load_ports(frame, packet, ports))
		return 0;
	return known(&services, packet->proto, &packet->to, ports[1]) ||
	       known(&servers, packet->proto, &packet->from, ports[0]) ||
	       marked(frame, packet, &packet->from, &packet->to, bpf_ntohs(ports[1]));
}

static __always_inline int is_tag(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

// A tag that the kernel took off the frame (skb->vlan_tci) is not in the bytes: nothing to skip.
static __always_inline int serves(const struct frame *frame)
{
	__u32 offset = 2 * ETH_ALEN;
	struct packet packet;
	__be16 type;

	for (int tag = 0; tag <= MAX_TAGS; tag++) {
		if (load(frame, offset, &type, sizeof(type)))
			return 0;
		if (type == bpf_htons(ETH_P_IP))
			return !read_ipv4(frame, offset + 2, &packet) && serves_packet(frame, &packet);
		if (type == bpf_htons(ETH_P_IPV6))
			return !read_ipv6(frame, offset + 2, &packet) && serves_packet(frame, &packet);
		if (!is_tag(type))
			return 0;
		offset += 4;
	}
	return 0;
}

static __always_inline int to_socket(struct xdp_md *ctx, __u8 in_parts)
{
	const struct frame frame = { .xdp = ctx, .in_parts = in_parts };
	__u32 link = ctx->ingress_ifindex;
	__u32 *slot;

	if (!serves(&frame))
		return XDP_PASS;
	slot = bpf_map_lookup_elem(&links, &link);
	if (!slot)
		return XDP_PASS;
	// No socket in the slot: the kernel may have the frame.
	return bpf_redirect_map(&xsks, *slot + ctx->rx_queue_index, XDP_PASS);
}

SEC("xdp")
int uvs_xdp(struct xdp_md *ctx)
{
	return to_socket(ctx, 0);
}

// For links whose frames do not fit a chunk (Linux 6.6).
SEC("xdp.frags")
int uvs_xdp_frags(struct xdp_md *ctx)
{
	return to_socket(ctx, 1);
}

SEC("socket")
int uvs_raw(struct __sk_buff *ctx)
{
	const struct frame frame = { .skb = ctx };

	// What the switch floods or promiscuous mode lets in is for another machine.
	if (ctx->pkt_type == PACKET_OTHERHOST)
		return 0;
	return serves(&frame) ? KEEP_ALL : 0;
}

SEC("tc")
int uvs_tcx(struct __sk_buff *ctx)
{
	const struct frame frame = { .skb = ctx };

	return serves(&frame) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

// A tc filter stays when the process that made it dies, so this one asks whether uvs lives.
SEC("tc")
int uvs_tc(struct __sk_buff *ctx)
{
	const struct frame frame = { .skb = ctx };
	__u32 first = 0;
	__u64 *beat = bpf_map_lookup_elem(&heartbeat, &first);

	if (!beat || bpf_ktime_get_ns() - *beat > DEAD_AFTER)
		return TC_ACT_UNSPEC;
	return serves(&frame) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}
