package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// report prints the medians and, against the first target, the ratio of each
// round with the interval in which 95 of 100 medians would lie.
func report(w io.Writer, results []result, s settings) {
	fmt.Fprintf(w, "\nPOST /mcp, answer of 2 KB, %d connections, %d rounds of %s, HTTP/1.1\n\n", s.connections, s.rounds, s.round)
	fmt.Fprintln(w, "| target | requests/s | ratio (95 %) | p50 | CPU per request | CPU ratio |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	base := results[0]
	for _, r := range results {
		ratio, low, high := ratios(r, base)
		fmt.Fprintf(w, "| %s | %.0f | %.2f (%.2f–%.2f) | %s | %s | %.2f |\n", r.name,
			median(r.samples, func(x sample) float64 { return x.perSecond }), ratio, low, high,
			time.Duration(median(r.samples, func(x sample) float64 { return float64(x.median) })).Round(time.Microsecond),
			time.Duration(median(r.samples, func(x sample) float64 { return float64(x.cpu) })).Round(time.Microsecond),
			median(r.samples, func(x sample) float64 { return float64(x.cpu) })/median(base.samples, func(x sample) float64 { return float64(x.cpu) }))
	}
}

// ratios compares round with round, so that what slowed both down cancels out.
func ratios(r, base result) (mid, low, high float64) {
	out := make([]float64, len(r.samples))
	for i := range r.samples {
		out[i] = r.samples[i].perSecond / base.samples[i].perSecond
	}
	slices.Sort(out)
	// The distribution-free interval of a median, by order statistics.
	n := float64(len(out))
	spread := 1.96 * math.Sqrt(n) / 2
	lowest, highest := int(math.Floor(n/2-spread)), int(math.Ceil(n/2+spread))
	return out[len(out)/2], out[max(lowest, 0)], out[min(highest, len(out)-1)]
}

func median(samples []sample, value func(sample) float64) float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = value(s)
	}
	slices.Sort(out)
	return out[len(out)/2]
}
