package config

// didYouMean gives a hint at the candidate nearest to what was written, or ""
// if none is near.
func didYouMean(written string, candidates []string) string {
	best, nearest := max(2, len(written)/4)+1, ""
	for _, c := range candidates {
		if d := distance(written, c); d < best {
			best, nearest = d, c
		}
	}
	if nearest == "" {
		return ""
	}
	return "; did you mean " + nearest + "?"
}

// distance is Levenshtein's: how many bytes must be put in, taken out or
// replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
