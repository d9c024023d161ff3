package outbound

import (
	"net/http"
	"testing"
	"time"
)

func TestFreshnessFollowsTheHeadersWithinBounds(t *testing.T) {
	now := time.Date(2026, 7, 28, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for rule, tt := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"nothing said":                    {http.Header{}, unsaidFresh},
		"max-age":                         {http.Header{"Cache-Control": {"max-age=600"}}, 10 * time.Minute},
		"among others, in any case":       {http.Header{"Cache-Control": {"public, MAX-AGE=600 ", "immutable"}}, 10 * time.Minute},
		"in quotes":                       {http.Header{"Cache-Control": {`max-age="600"`}}, 10 * time.Minute},
		"the first max-age":               {http.Header{"Cache-Control": {"max-age=600, max-age=1200"}}, 10 * time.Minute},
		"less the age":                    {http.Header{"Cache-Control": {"max-age=600"}, "Age": {"300"}}, 5 * time.Minute},
		"older than its max-age":          {http.Header{"Cache-Control": {"max-age=600"}, "Age": {"900"}}, MinFresh},
		"an age that is huge":             {http.Header{"Cache-Control": {"max-age=600"}, "Age": {"99999999999999999999"}}, MinFresh},
		"a second":                        {http.Header{"Cache-Control": {"max-age=1"}}, MinFresh},
		"zero":                            {http.Header{"Cache-Control": {"max-age=0"}}, MinFresh},
		"a year":                          {http.Header{"Cache-Control": {"max-age=31536000"}}, MaxFresh},
		"more than a number holds":        {http.Header{"Cache-Control": {"max-age=99999999999999999999"}}, MaxFresh},
		"nonsense":                        {http.Header{"Cache-Control": {"max-age=soon"}}, MinFresh},
		"negative":                        {http.Header{"Cache-Control": {"max-age=-1"}}, MinFresh},
		"no-store":                        {http.Header{"Cache-Control": {"max-age=600, no-store"}}, MinFresh},
		"no-cache":                        {http.Header{"Cache-Control": {"no-cache"}}, MinFresh},
		"s-maxage is not for us":          {http.Header{"Cache-Control": {"s-maxage=600"}}, unsaidFresh},
		"Expires":                         {http.Header{"Expires": {at(time.Hour)}}, time.Hour},
		"Expires of a clock that is late": {http.Header{"Expires": {at(0)}, "Date": {at(-time.Hour)}}, time.Hour},
		"Expires in the past":             {http.Header{"Expires": {at(-time.Hour)}}, MinFresh},
		"Expires that is no date":         {http.Header{"Expires": {"0"}}, MinFresh},
		"max-age before Expires":          {http.Header{"Cache-Control": {"max-age=600"}, "Expires": {at(time.Hour)}}, 10 * time.Minute},
	} {
		if got := freshness(tt.header, now); got != tt.want {
			t.Errorf("%s: %v, want %v", rule, got, tt.want)
		}
	}
}
