{
 "key": "bb9f16cdfc059770",
 "value": "SZrrIGFD+jFe66Ke1yHWwM3xBa3Fbefnb+yb0kzfLCLfq1NJaRybtrHMZYfWNhnCY4jwc7wfZpArRRfe3HtRAA=="
}