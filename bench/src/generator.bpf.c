// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
//
// The two ends of the packet-rate bench, both on the client's interface:
//
//   generate   run by BPF_PROG_TEST_RUN on live frames: writes a request of one of some flows and
//              sends it out (XDP_TX), which takes no system call and no allocation a frame
//   sink       at the interface's ingress: counts what comes back, and ends it there

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct request {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp; // without a checksum, so that the port may change
	__u8 payload[18];
} __attribute__((packed));

// What is sent. Flows differ in the client's port, counted from the request's on.
struct plan {
	struct request request;
	__u32 flows;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plans SEC(".maps");

// Frames that came back.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} returned SEC(".maps");

static const __u32 first;

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	struct request *r = (void *)(long)ctx->data;
	struct plan *plan = bpf_map_lookup_elem(&plans, &first);

	if (!plan || !plan->flows || (void *)(r + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	// All of it each time: the frame's memory is as the last receiver left it.
	*r = plan->request;
	r->udp.source = bpf_htons(bpf_ntohs(r->udp.source) + bpf_get_prandom_u32() % plan->flows);
	return XDP_TX;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	struct request *r = (void *)(long)ctx->data;
	struct plan *plan = bpf_map_lookup_elem(&plans, &first);
	__u64 *count = bpf_map_lookup_elem(&returned, &first);

	if (!plan || !count || (void *)(r + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	// What else there is, such as neighbour discovery, is not counted.
	if (r->eth.h_proto == plan->request.eth.h_proto && r->ip.daddr == plan->request.ip.daddr)
		*count += 1;
	return XDP_DROP;
}
