package pages

// Languages returns the BCP 47 tags of the languages that the pages have.
func (r *Renderer) Languages() []string {
	var out []string
	for _, b := range r.books {
		out = append(out, b.tag.String())
	}
	return out
}
