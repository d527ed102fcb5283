/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/*
 * Which frames have a firewall mark that is served? By bit vectors, a bit a rule, as the workers
 * find marks (marks/classifier.rs): of what a frame's source, destination, port, protocol and link
 * satisfy, the lowest bit in common is the first rule that matches.
 *
 * All of it is one value of a map of its own. steer/marks.rs writes a new map and puts it in the
 * old one's place, so that a frame meets the old rules or the new ones and never a mixture.
 */

#ifndef UVS_MARKS_BPF_H
#define UVS_MARKS_BPF_H

#define MARK_RULES 1024
#define MARK_WORDS (MARK_RULES / 64)
/* The ends of as many ranges cut all values in so many pieces; of IPv6, IPv4's are one more. */
#define MARK_RANGES (2 * MARK_RULES + 4)
#define MARK_VECTORS (3 * MARK_RANGES + 2 * 256 + 1)
/* A binary search in MARK_RANGES is over after so many steps. */
#define MARK_STEPS 12

/* Where a range begins. Addresses are IPv6's, those of IPv4 mapped into them. */
struct mark_value {
	__u64 high;
	__u64 low;
};

/* What rules are asked about. */
struct mark_key {
	struct mark_value from;
	struct mark_value to;
	__u32 port;
	__u32 proto;
	__u32 link;
	__u32 is_v6;
};

struct mark_ranges {
	struct mark_value starts[MARK_RANGES];
	__u32 numbers[MARK_RANGES];
	__u32 count;
	__u32 zero;
};

/* Vectors are told by their numbers. */
struct mark_rules {
	/* Of IPv4, of IPv6. */
	__u64 served[2][MARK_WORDS];
	__u64 vectors[MARK_VECTORS][MARK_WORDS];
	struct mark_ranges sources;
	struct mark_ranges destinations;
	struct mark_ranges ports;
	__u32 protocols[256];
	__u32 links[256];
	/* The rules to which every port is right. */
	__u32 any_port;
	__u32 words;
};

/* Empty while no rule gives a mark that is served. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(struct mark_rules));
	});
} marks SEC(".maps");

/* The port of a fragment, which has none. */
#define MARK_NO_PORT 0x10000
/* A link that is none of uvs's. */
#define MARK_NO_LINK 255

static __always_inline __u64 mark_number(const struct mark_ranges *ranges, struct mark_value value)
{
	__u32 first = 0, behind = ranges->count;

	for (int step = 0; step < MARK_STEPS && first < behind; step++) {
		__u32 middle = (first + behind) / 2;
		const struct mark_value *start;

		if (middle >= MARK_RANGES)
			break;
		start = &ranges->starts[middle];
		if (start->high < value.high || (start->high == value.high && start->low <= value.low))
			first = middle + 1;
		else
			behind = middle;
	}
	first -= 1;
	return first < MARK_RANGES ? ranges->numbers[first] : MARK_VECTORS;
}

/* The vector of a number; of a number that there is not, the last one, which stays empty. */
static __always_inline const __u64 *mark_vector(const struct mark_rules *rules, __u64 number)
{
	const __u64 *vector;

	/*
	 * Number, check and pointer, each in its own register and at once: of a number that the
	 * compiler copies or puts on the stack in between, older verifiers forget the check.
	 */
	barrier_var(number);
	if (number >= MARK_VECTORS)
		number = MARK_VECTORS - 1;
	vector = rules->vectors[number];
	barrier_var(vector);
	return vector;
}

/*
 * Whether the first rule that matches gives a mark that is served. A function of its own, which
 * the verifier goes through once, and not for each way that leads here.
 *
 * A rule about ports may match a fragment or not, so those before the first one that surely
 * matches count as well: as with endpoints, a fragment of what is perhaps served is taken.
 */
__attribute__((noinline)) int mark_is_served(const struct mark_key *key)
{
	const __u64 *source, *destination, *ports, *protocol, *links, *sure;
	const struct mark_rules *rules;
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&marks, &zero);

	if (!inner || !key)
		return 0;
	rules = bpf_map_lookup_elem(inner, &zero);
	if (!rules)
		return 0;
	source = mark_vector(rules, mark_number(&rules->sources, key->from));
	destination = mark_vector(rules, mark_number(&rules->destinations, key->to));
	protocol = mark_vector(rules, rules->protocols[key->proto & 255]);
	links = mark_vector(rules, rules->links[key->link & 255]);
	if (key->port == MARK_NO_PORT) {
		sure = mark_vector(rules, rules->any_port);
		ports = source;
	} else {
		struct mark_value port = { .low = key->port };

		sure = mark_vector(rules, mark_number(&rules->ports, port));
		ports = sure;
	}

	for (__u32 at = 0; at < MARK_WORDS && at < rules->words; at++) {
		__u64 match = source[at] & destination[at] & ports[at] & protocol[at] & links[at];
		__u64 first = match & sure[at];

		first &= -first;
		if (match & (first | (first - 1)) & rules->served[key->is_v6 & 1][at])
			return 1;
		if (first)
			return 0;
	}
	return 0;
}

#endif
