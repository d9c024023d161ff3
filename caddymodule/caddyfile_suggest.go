package caddymodule

import "iter"

// nearest returns the name that someone who wrote word most likely meant, or
// nothing when every name is too far off: more than two slips, or more than one
// for a word so short that two would turn it into anything. Of equally near
// names it returns the first in the order of the alphabet.
func nearest(word string, names iter.Seq[string]) string {
	best, distance := "", 3
	if len(word) < 5 {
		distance = 2
	}
	for name := range names {
		d := editDistance(word, name)
		if d < distance || d == distance && best != "" && name < best {
			best, distance = name, d
		}
	}
	return best
}

// editDistance returns how many bytes have to be inserted, removed or replaced
// to turn a into b (Levenshtein). Lengths that differ by more than two are not
// looked into: the answer is then their difference, which is a lower bound.
func editDistance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return max(d, -d)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
