// Package metrics counts what the other packages do, for Prometheus. It is the
// only one of them that knows its client library. All methods of a nil *Metrics
// do nothing, so that nobody has to have one.
package metrics
