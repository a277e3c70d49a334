// Package bench measures the buffer and the drain beside their peers; docs/benchmarks.md has
// the figures. It is a module of its own, so that its peers are none of the product's.
package bench
