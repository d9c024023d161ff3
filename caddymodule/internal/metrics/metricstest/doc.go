// Package metricstest lets tests read metrics as a scrape shows them.
package metricstest
