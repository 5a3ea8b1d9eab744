package redact

// trie is an Aho-Corasick automaton. It is walked only where the filter has
// found something, so it is kept small rather than fast: the nodes' children
// are lists.
type trie struct {
	nodes []node     // nodes[0] is the root, absent when there is no word
	root  [256]int32 // children of the root, 0: none
}

type node struct {
	child, sibling int32 // 0: none
	fail           int32 // where the longest proper suffix that begins a word is
	depth          int32
	match          int32 // length of the longest word that ends here, 0: none
	c              byte
}

// add enters a word. Call link after the last one.
func (t *trie) add(word string) {
	if len(t.nodes) == 0 {
		t.nodes = make([]node, 1, 1+len(word))
	}
	at := int32(0)
	for i := range len(word) {
		c := word[i]
		next := t.child(at, c)
		if next == 0 {
			next = int32(len(t.nodes))
			n := node{c: c, depth: t.nodes[at].depth + 1}
			if at == 0 {
				t.root[c] = next
			} else {
				n.sibling = t.nodes[at].child
				t.nodes[at].child = next
			}
			t.nodes = append(t.nodes, n)
		}
		at = next
	}
	t.nodes[at].match = t.nodes[at].depth
}

// link computes where to go on after a mismatch.
func (t *trie) link() {
	var queue []int32
	for _, n := range t.root {
		if n != 0 {
			queue = append(queue, n)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for k := t.nodes[at].child; k != 0; k = t.nodes[k].sibling {
			fail := t.step(t.nodes[at].fail, t.nodes[k].c)
			t.nodes[k].fail = fail
			if t.nodes[k].match == 0 {
				t.nodes[k].match = t.nodes[fail].match
			}
			queue = append(queue, k)
		}
	}
}

// child returns the child of at for c, 0 when there is none.
func (t *trie) child(at int32, c byte) int32 {
	if at == 0 {
		return t.root[c]
	}
	for k := t.nodes[at].child; k != 0; k = t.nodes[k].sibling {
		if t.nodes[k].c == c {
			return k
		}
	}
	return 0
}

// step returns the longest beginning of a word that ends with c.
func (t *trie) step(at int32, c byte) int32 {
	for at != 0 {
		if k := t.child(at, c); k != 0 {
			return k
		}
		at = t.nodes[at].fail
	}
	return t.root[c]
}
