/** In the place of the database that only other views than the one measured here use. */

module.exports = {};
