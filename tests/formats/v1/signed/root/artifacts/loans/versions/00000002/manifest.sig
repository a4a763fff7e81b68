{
 "key": "bb9f16cdfc059770",
 "value": "EXHShRBJj56q747wEytnYWKImXiqJBBSEWadtfsKRFO+/sFQUdHTi7jiOAPGJuhJJEErSSQHIqlYpPbryJcjBA=="
}