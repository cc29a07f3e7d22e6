package house

// tooLarge are the files, types and packages that are larger than they may be, and how large they are.
var tooLarge = map[string]int{
	"fields of processor/outagedetector.detector":                   25,
	"fields of processor/outagedetector/internal/cause.Explanation": 21,
	"methods of processor/outagedetector/internal/cause.Finder":     39,
}

// withoutBound are the packages with maps of which no comment says by what they are bounded, and how many.
var withoutBound = map[string]int{
	"extension/topologyquery/internal/ingest":    4,
	"extension/topologyquery/internal/inventory": 5,
	"extension/topologyquery/internal/live":      1,
	"extension/topologyquery/internal/outages":   1,
	"extension/topologyquery/internal/traces":    3,
	"internal/datatime":                          2,
	"internal/expiry":                            1,
	"internal/journal":                           1,
	"internal/mesh":                              8,
	"processor/outagedetector":                   2,
}
