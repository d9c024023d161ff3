// Package oauth is the vocabulary of OAuth as this server speaks it: one file
// for each specification, with its wire structures, its error codes and the
// checks that need nothing but their arguments.
package oauth
